"""The binarized BERT that trains, and the families it comes in."""
