"""Queries without a text encoder (`lexlip-bench query-table`): tables of token weights, made and measured."""
