"""Tables, figures, statistics and pages, made from records alone. Imports no model, no engine and no training code.

Imports run one way: statistics <- render.tables, render.charts <- records <- findings <- pages.
"""
