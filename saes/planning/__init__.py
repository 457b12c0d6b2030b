"""What a training run will take, told before it starts."""

from saes.planning.run_plan import Plan, plan

__all__ = ["Plan", "plan"]
