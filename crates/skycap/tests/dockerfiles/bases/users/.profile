# a profile
