"""The tests: unit, integration, acceptance, and the building inspector in house."""
