"""Sub-commands of `deconv` that track runs, one a module; imports as in `deconv.commands`."""
