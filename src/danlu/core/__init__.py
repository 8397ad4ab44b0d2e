"""Config, model folder, run, errors, device, assets: what every floor stands on."""
