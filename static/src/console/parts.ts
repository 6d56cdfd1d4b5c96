/** The elements of a console by the names the template gives them, and its sentences. */

export function part<T extends HTMLElement = HTMLElement>(root: ParentNode, name: string): T {
  const found = root.querySelector<T>(`[data-part="${name}"]`);
  if (!found) throw new Error(`The console's template lacks the part “${name}”.`);
  return found;
}

/** A sentence of the template, "{name}" filled in. */
export type Say = (name: string, values?: Record<string, string | number>) => string;

export function sentencesOf(root: HTMLElement): Say {
  const template = part<HTMLTemplateElement>(root, "sentences");
  const sentences = new Map<string, string>();
  for (const element of template.content.querySelectorAll<HTMLElement>("[data-sentence]")) {
    sentences.set(element.dataset.sentence ?? "", element.textContent.trim());
  }
  return (name, values = {}) =>
    Object.entries(values).reduce(
      (text, [key, value]) => text.replaceAll(`{${key}}`, String(value)),
      sentences.get(name) ?? name,
    );
}
