"""What stands between a socket and the routes: limits of connections and heads, and the checks that every request passes."""
