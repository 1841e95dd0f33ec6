//! Small worlds of network namespaces: a client, a gateway, nodes, pods.
