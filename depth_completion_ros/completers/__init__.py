"""Everything that turns a frame into dense depth, behind one interface."""
