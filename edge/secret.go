package edge

import "herd/broker"

// Secret is a text that nothing shows; the broker's log-in has the same.
type Secret = broker.Secret
