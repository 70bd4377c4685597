"""How libraries of compiled stages are made (`ahead/library.py` loads them); nothing that runs imports this."""
