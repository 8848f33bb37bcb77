"""What a user must fetch or convert: weights, and data sets from their releases."""
