/** The version of this package, as in package.json (a test compares them): reading a file for it would need a path. */
export const VERSION = '0.1.0'
