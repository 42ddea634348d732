"""From pictures without labels to labels to train on: depth, pseudo labels, screening."""
