"""When tasks help each other: task covariances, and small problems of transfer that are solved exactly; no torch."""
