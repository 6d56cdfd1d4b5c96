/** A phone's keyboard: it writes into a field, and what changes in the field is typed. */

// Something to delete has to stand in the field, or Backspace says nothing.
const FILLING = "_".repeat(60);

export interface Typist {
  character(character: string): void;
  /** By KeyboardEvent.key; whether it was one that is sent by name. */
  named(key: string): boolean;
}

function commonLength(before: string, after: string): number {
  let length = 0;
  while (length < before.length && before[length] === after[length]) length++;
  return length;
}

/** Autocorrection and composition rewrite the end of a word: it is taken back and typed anew. */
function typeDifference(before: string, after: string, typist: Typist): void {
  const common = commonLength(before, after);
  for (let i = common; i < before.length; i++) typist.named("Backspace");
  for (const character of after.slice(common)) typist.character(character);
}

export function watchField(field: HTMLTextAreaElement, typist: Typist): void {
  let before = FILLING;
  const refill = () => {
    field.value = before = FILLING;
  };
  field.addEventListener("focus", refill);
  field.addEventListener("keydown", (event) => {
    if (event.isComposing || event.key === "Backspace") return;
    if (typist.named(event.key)) event.preventDefault();
    event.stopPropagation();
  });
  field.addEventListener("input", (event) => {
    typeDifference(before, field.value, typist);
    before = field.value;
    const isComposing = (event as InputEvent).isComposing;
    if (!isComposing && Math.abs(before.length - FILLING.length) > 30) refill();
  });
}
