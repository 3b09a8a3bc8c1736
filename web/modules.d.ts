/** A stylesheet is imported as one that can be adopted. */
declare module "*.css" {
  const sheet: CSSStyleSheet;
  export default sheet;
}
