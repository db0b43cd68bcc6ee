"""x"""
class LocalEmbedder:
    MODEL="x"
