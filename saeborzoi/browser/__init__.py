"""The feature browser: static pages that show what each node of an SAE is."""

from saeborzoi.browser.site import VARIANTS, SiteFigures, assembly_of, write_site, write_start_page

__all__ = ["VARIANTS", "SiteFigures", "assembly_of", "write_site", "write_start_page"]
