/* The choice among the models that the server has. */
import { answerOf } from "./token.js";

const select = byId("model");

const loadModels = async () => {
  const response = await answerOf("/v1/models");
  if (!response.ok) return;
  const { models } = await response.json();
  select.replaceChildren(...models.map(({ name, is_default: isDefault }) => {
    const option = element("option", "", name);
    option.value = name;
    option.selected = isDefault;
    return option;
  }));
};
const chosenModel = () => select.value;

export { chosenModel, loadModels };
