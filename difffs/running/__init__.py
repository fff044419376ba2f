"""``difffs run``: a command whose resident memory is limited, so that cold pages go to a store."""
