"""A virtualisation server of autopkgtest: guests as testbeds, by the protocol of README.virtualisation-server."""
