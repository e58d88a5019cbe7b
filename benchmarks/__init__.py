"""What Stepwell costs, measured: every figure stands beside a peer's or a floor's from the same run."""
