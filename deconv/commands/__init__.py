"""Sub-commands of `deconv`, one a module. They import what they need when they are called."""
