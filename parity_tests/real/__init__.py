"""The classes of other libraries that parity is proven against, as functions from images to outputs."""
