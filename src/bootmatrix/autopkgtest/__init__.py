"""autopkgtest's virtualisation server: guests as testbeds.

The protocol is in its README.virtualisation-server.
"""
