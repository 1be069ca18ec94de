"""A project as a notebook sees it: its SAEs, their nodes and what is known of them.

    import saeborzoi
    project = saeborzoi.open("demo")
    project.node(project.saes[0], 135).logo()

Reads the settings, the catalogue and the store; writes nothing and needs no Dagster. How results
are made belongs to the assets; plots of whole tables are in `saeborzoi.plots`.
"""

from saeborzoi.project.node import Motif, Node
from saeborzoi.project.project import Project, SaeComparison, open_project
from saeborzoi.project.sae import Sae

__all__ = ["Motif", "Node", "Project", "Sae", "SaeComparison", "open_project"]
