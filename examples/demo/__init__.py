"""`python -m examples.demo`: ten real games of chess replayed over HTTP against a fresh service, then two hundred openings."""
