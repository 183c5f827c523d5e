"""What goes on between the service and its workers beside TorchServe: progress one way, giving up the other."""
