"""The proof that both implementations are one function: a promise a file, and the commands that show it to a user."""
