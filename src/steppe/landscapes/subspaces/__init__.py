"""Lines, planes, boxes and curves through the parameters of networks."""
