"""What a relay would do with a datagram, and why; nothing is sent.

The native core matches the datagram and computes the copies, by the code of the engine. This
package names interfaces, adds what is known of running rules, and writes sentences.

Import its modules: `results` and `words` load little, `explainer` all that rules need.
"""
