"""The examination of a store: damage, its causes, repairs that lose nothing."""
