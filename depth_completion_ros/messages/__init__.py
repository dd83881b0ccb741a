"""Messages to arrays and back, duck-typed: the node and the bag reader share them."""
