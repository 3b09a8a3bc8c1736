/** A stylesheet import is a constructable stylesheet. */
declare module "*.css" {
  const sheet: CSSStyleSheet;
  export default sheet;
}
