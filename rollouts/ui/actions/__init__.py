"""What a person confirms before it is done, whatever the strategy."""
