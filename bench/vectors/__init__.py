"""Vectors on disk: encoding, reading, writing, impacts, statistics, generated vectors, Ray nodes."""
