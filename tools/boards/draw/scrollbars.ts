// An ES module of @grafana/ui takes the default export of this CommonJS package, which esbuild, as Node does, would take for all of it.
export { Scrollbars as default } from './node_modules/react-custom-scrollbars-2/lib/index.js';
