"""From a trained student to a checked model folder."""
