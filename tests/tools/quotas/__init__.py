"""A state machine that starts, stops and breaks servers on a real hub, and a model that says what quotas allow."""
