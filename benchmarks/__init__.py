"""One command that measures Grotto beside its floors and beside ipykernel, in one run."""
