"""Many searches and trainings under equal conditions: the ablation of beta_P and the comparison of strategies."""
