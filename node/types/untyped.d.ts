// Packages that ship no TypeScript types; only what this project uses is described.
declare module 'b4a'
declare module 'z32'
declare module 'hypercore-crypto'
declare module '@hyperswarm/secret-stream'
declare module 'hyperdht'
declare module 'hyperswarm'
