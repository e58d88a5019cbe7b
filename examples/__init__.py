"""Machines to try Stepwell with; `make serve` hosts them."""
