"""Intervals, exact tests and corrections; knows no record."""
