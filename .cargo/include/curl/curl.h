/* Empty on purpose. rdkafka-sys 4.10 with `cmake-build` includes this header
 * though curl is switched off; remove this folder and the CPATH entry in
 * config.toml once a release carries the fix. */
