"""duvae."""
