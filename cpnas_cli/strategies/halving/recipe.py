"""The final recipe in fewer epochs."""

from cpnas_cli.settings import TrainConfig


def shortened(train: TrainConfig, num_epochs: int) -> TrainConfig:
    """The same training in so many epochs (more are allowed): warm-up and first stage keep their shares.

    The rate falls to its end all the same, as everything does that goes by the fraction of the training that is done.
    What is counted in epochs is rounded, such that every stage keeps an epoch in which the rate falls. One epoch is too
    short for two stages and has the second alone, the one of the network that is wanted.
    """
    first_stage = 0
    if train.first_stage_epochs and num_epochs > 1:
        share = round(num_epochs * train.first_stage_epochs / train.num_epochs)
        first_stage = min(max(share, 1), num_epochs - 1)
    shortest = min(first_stage, num_epochs - first_stage) if first_stage else num_epochs
    warmup = min(round(num_epochs * train.warmup_epochs / train.num_epochs), shortest - 1)
    # what is searched are networks that nobody has trained
    changes = {"num_epochs": num_epochs, "first_stage_epochs": first_stage, "warmup_epochs": warmup, "init_from": None}
    return train.model_copy(update=changes)
