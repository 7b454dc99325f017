"""What goes into a run: the settings, the presets that name sets of them, and overrides.

Settings are frozen; unknown keys are refused with the nearest valid name.
"""

from cpnas_cli.settings.config import (
    DEFAULT_PRESET,
    Config,
    config_from_document,
    config_yaml,
    differing_settings,
    flat_settings,
)
from cpnas_cli.settings.documentation import (
    Setting,
    documented_settings,
    documented_yaml,
    settings_markdown,
)
from cpnas_cli.settings.fields import STORED
from cpnas_cli.settings.loading import change_config, load_config, parse_override
from cpnas_cli.settings.presets import preset_names, preset_summary, preset_text, presets_folder
from cpnas_cli.settings.sections import (
    CreditName,
    DataConfig,
    DtypeName,
    EngineName,
    EstimatorName,
    EvaluationName,
    FitName,
    IndicatorName,
    NetworkConfig,
    OptimizerName,
    PerformanceName,
    RealPart,
    SearchConfig,
)
from cpnas_cli.settings.strategy_sections import FairConfig, HalvingConfig, PcDartsConfig, SposConfig
from cpnas_cli.settings.train_section import ScheduleName, TrainConfig

__all__ = [
    "DEFAULT_PRESET",
    "STORED",
    "Config",
    "CreditName",
    "DataConfig",
    "DtypeName",
    "EngineName",
    "EstimatorName",
    "EvaluationName",
    "FairConfig",
    "FitName",
    "HalvingConfig",
    "IndicatorName",
    "NetworkConfig",
    "OptimizerName",
    "PcDartsConfig",
    "PerformanceName",
    "RealPart",
    "ScheduleName",
    "SearchConfig",
    "Setting",
    "SposConfig",
    "TrainConfig",
    "change_config",
    "config_from_document",
    "config_yaml",
    "differing_settings",
    "documented_settings",
    "documented_yaml",
    "flat_settings",
    "load_config",
    "parse_override",
    "preset_names",
    "preset_summary",
    "preset_text",
    "presets_folder",
    "settings_markdown",
]
