"""Numbers and tables: how good an estimate is, and whether its confidence is true."""
