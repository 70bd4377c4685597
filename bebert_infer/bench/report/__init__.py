"""The page that `bebert bench --report` writes."""
