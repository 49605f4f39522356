"""What a training run is made of besides its images: recipes (YAML), schedules, hyper-parameters."""
