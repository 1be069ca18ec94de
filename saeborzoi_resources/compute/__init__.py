"""Where heavy stages run: this machine or SLURM, behind one interface."""
